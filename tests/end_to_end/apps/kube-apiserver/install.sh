#!/bin/bash
# install.sh FOLDER: kube-apiserver and kube-controller-manager, built from Debian's own source package as its debian/rules
# builds kubectl (all that they need is vendored in it; ten minutes on two cores, 3 GB meanwhile). Run again, it does nothing.
#
# One library is swapped: the vendored reflect2 1.0.1 crashes when it is built by Go 1.18 or later; Debian has 1.0.2.
set -euo pipefail
root="$(cd "$(dirname "$0")/../../../.." && pwd)"
mkdir -p "$1/bin" && cd "$1"
sh "$root/.ci/debian" golang-go golang-github-modern-go-reflect2-dev etcd-server rsync jq dpkg-dev make openssl
command -v kubectl >/dev/null || sh "$root/.ci/debian" kubernetes-client  # any version will do
[ -x bin/kube-apiserver ] && [ -x bin/kube-controller-manager ] && exit 0

# The machine's own Debian sources, asked for source packages; apt's own lists stay as they are.
here="$PWD/apt"
mkdir -p "$here/lists/partial" "$here/cache/archives/partial" home
sed 's/^Types: deb$/Types: deb-src/' /etc/apt/sources.list.d/debian.sources > "$here/sources.sources"
asked=(-o "Dir::Etc::SourceList=$here/sources.sources" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::lists=$here/lists" -o "Dir::Cache=$here/cache")
if ! compgen -G 'kubernetes-1.20*/' >/dev/null; then
    apt-get "${asked[@]}" update -qq
    apt-get "${asked[@]}" source -qq kubernetes
fi

cd kubernetes-1.20*/
reflect2=vendor/github.com/modern-go/reflect2
rm -rf "$reflect2" && cp -rL /usr/share/gocode/src/github.com/modern-go/reflect2 "$reflect2" && rm -f "$reflect2"/*_test.go
mkdir -p .go/src/k8s.io && ln -sfn ../../.. .go/src/k8s.io/kubernetes
export GOPATH="$PWD/.go" PATH="/usr/lib/go/bin:$PATH" CGO_ENABLED=0 GOPROXY=off HOME="$1/home"
make WHAT='cmd/kube-apiserver cmd/kube-controller-manager'
cp _output/bin/kube-apiserver _output/bin/kube-controller-manager "$1/bin/"
cd .. && rm -rf kubernetes-1.20* kubernetes_* apt home

#!/bin/sh
# prepare.sh FOLDER ADDRESS: who may come in, and the key of service accounts. A lab's token is no secret.
set -eu
mkdir -p "$1/etcd" "$1/certs" && chmod 700 "$1/etcd" && cd "$1"
echo 'lab,admin,1,system:masters' >tokens.csv
[ -f accounts.key ] || openssl genrsa -out accounts.key 2048 2>/dev/null
cat >kubeconfig <<Y
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://$2:16444", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: lab}}]
contexts: [{name: lab, context: {cluster: lab, user: admin}}]
current-context: lab
Y

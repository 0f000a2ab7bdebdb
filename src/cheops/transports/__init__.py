"""How requests reach services and peers."""

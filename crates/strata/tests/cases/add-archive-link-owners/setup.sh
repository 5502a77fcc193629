mkdir -p d; echo a > d/a; echo b > d/b
tar --owner=1 --group=2 --mode=640 -cf t.tar d
ln d/a d/link; ln d/b d/other
# tar(1) writes a link once its first name was written: take the second entry only.
tar --owner=3 --group=4 --mode=4711 -cf two.tar d/a d/link d/b d/other
tar --delete -f two.tar d/a d/b
tar --concatenate -f t.tar two.tar
rm two.tar

# Links to symlinks and to fifos: all names of one are one. Of the first, the last entry says whose
# it is; of the second, its mode and time too.
mkdir d
cd d
ln -s nowhere a && ln -P a b && mkdir sub && ln -P a sub/c
mkfifo p && ln p q
cd ..
tar cf a.tar --owner=1 --group=1 --sort=name d
tar rf a.tar --owner=3 --group=4 d/q
rm -r d

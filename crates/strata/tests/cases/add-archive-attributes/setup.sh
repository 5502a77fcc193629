mkdir d; echo f > d/f; setfattr -n user.note -v hi d/f; chmod 4755 d/f; tar cf a.tar --xattrs --owner=0 --group=0 d; rm -r d

mkdir d; echo f > f; echo in > d/in; tar cf t.tar --owner=0 --group=0 d

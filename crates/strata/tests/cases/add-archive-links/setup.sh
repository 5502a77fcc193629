mkdir d; echo f > d/f; ln d/f d/h; ln -s f d/s; ln -s /etc d/abs; ln -s nowhere d/dang; mkfifo d/p; tar cf a.tar --owner=1 --group=1 --sort=name d; rm -r d

mkdir -p d/sub; echo x > d/x; echo y > d/sub/y; ln -s d ld; ln -s ld lld; echo f > f; ln -s f lf; ln -s lf l2f; ln -s l2f l3f
ln -s nope d/dangling

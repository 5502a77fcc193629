mkdir d; echo f > f; echo in > d/in; ln -s f l

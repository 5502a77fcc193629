mkdir d; echo f > d/f; echo g > d/g; ln -s d l; ln -s d/f lf; ln -s ../x out; printf "lf\nd/f\n" > .dockerignore

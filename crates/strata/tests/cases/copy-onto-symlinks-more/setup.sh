mkdir -p t/d t2/d t2/x; echo new > t/f; echo in > t/d/in; echo 2 > t2/f; echo 3 > t2/d/y; ln -s d t2/g

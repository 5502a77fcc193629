mkdir -p t/d; echo a > t/a; ln -s a t/l

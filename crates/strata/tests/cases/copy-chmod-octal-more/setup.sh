mkdir -p t/d; echo f > t/f; echo g > t/d/g; ln -s f t/l

mkdir -p d/e/f; echo b > b; ln -s ../b d/inner; ln -s nope d/e/f/inner; ln -s nope d/k; echo m > d/m

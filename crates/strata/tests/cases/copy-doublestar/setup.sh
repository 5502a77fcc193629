mkdir -p d/e/f; echo 0 > x; echo 1 > d/x; echo 2 > d/e/x; echo 3 > d/e/f/x; echo y > d/y

mkdir -p d/sub; echo f > d/f; echo g > d/sub/g

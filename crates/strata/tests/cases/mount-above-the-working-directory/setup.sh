mkdir -p in/x
echo f > in/x/f

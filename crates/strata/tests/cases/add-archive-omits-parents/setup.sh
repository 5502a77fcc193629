mkdir -p p/q/r; echo f > p/q/r/f; echo g > p/g; tar cf np.tar --owner=1 --group=2 p/q/r/f p/g; rm -r p

mkdir -p d l; echo new > f; echo n > d/n; echo in > l/in; tar cf a.tar --owner=0 --group=0 f d l; rm -r d l f

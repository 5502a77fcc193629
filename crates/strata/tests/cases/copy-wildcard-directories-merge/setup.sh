for i in 1 2 3; do mkdir -p p$i/conf; echo $i > p$i/f$i; echo $i > p$i/conf/c; done; echo f > pf

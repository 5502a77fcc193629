mkdir -p t/d; echo one > t/a; ln t/a t/b; ln t/a t/d/c; echo two > t/z; ln t/z t/y

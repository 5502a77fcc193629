mkdir d; echo f > f; echo in > d/in; echo f2 > d/f

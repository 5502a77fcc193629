mkdir d; echo f > f; echo in > d/in

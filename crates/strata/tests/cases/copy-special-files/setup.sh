mkdir s; mkfifo s/pipe; chmod 620 s/pipe; echo f > s/f

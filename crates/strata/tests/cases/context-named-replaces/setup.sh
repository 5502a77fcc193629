mkdir other third; echo o > other/o; echo t > third/t; echo f > f

mkdir -p t/d; echo new > t/f; chmod 644 t/f; echo more > t/d/more; chmod 755 t/d

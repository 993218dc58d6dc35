"""How each thing of the drawn world is drawn, one function per thing."""

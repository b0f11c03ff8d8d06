from helmholtz_mim.cli import main

main()

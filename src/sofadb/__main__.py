"""`python -m sofadb` is the command `sofadb`."""

from sofadb.cli.main import main

main()

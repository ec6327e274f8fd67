"`python -m brewcast`: the same as the command `brewcast`."

import sys

from brewcast.cli import main

if __name__ == "__main__":
    sys.exit(main())

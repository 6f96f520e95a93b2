"""A local worker process: Beam's own, without its log of starting and stopping."""

import logging
import sys

from apache_beam.runners.worker import sdk_worker_main


def main() -> None:
    """Serves the runner that started this process until it hangs up."""
    logging.disable(logging.WARNING)
    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()

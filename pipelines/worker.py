"""A worker process: Beam's own; a local one without its log of starting and stopping."""

import gc
import logging
import os
import sys

from apache_beam.runners.worker import sdk_worker_main


def main() -> None:
    """Serves the runner that started this process."""
    logging.disable(logging.WARNING)
    serve()


def serve() -> None:
    """Serves the runner that the environment names until it hangs up."""
    gc.freeze()  # what Beam has loaded stays: no collection need go through it again
    sdk_worker_main.main(sys.argv)
    sys.stderr.flush()
    os._exit(0)  # taking Python down costs half a second, and the runner waits for one worker after the other


if __name__ == "__main__":
    main()

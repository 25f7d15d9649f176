"""What every test may rely on."""

import signal

# A script's background job ignores Ctrl-C, and so would every process that its tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

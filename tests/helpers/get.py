"""What `curl -k URL` does: prints what a URL of this machine answers, whoever vouches for its certificate."""

from __future__ import annotations

import ssl
import sys
import urllib.request

if __name__ == "__main__":
    anybody = ssl.create_default_context()
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    with urllib.request.urlopen(sys.argv[1], context=anybody, timeout=20) as answer:
        print(answer.read().decode())

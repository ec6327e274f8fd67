"Chromium, as the screenshots and the tests start it: it asks no host by itself."

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")  # names of its program
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking".split()
FLAGS += ["--disable-component-update", "--disable-sync"]

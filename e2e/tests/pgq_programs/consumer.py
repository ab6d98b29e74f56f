"""A consumer with retries, as one writes it with python-pgq."""

import sys

import pgq


class Recorder(pgq.Consumer):
    def process_event(self, db, event):
        retry = event.ev_retry or 0
        db.cursor().execute("insert into seen (number, retry) values (%s, %s)", [int(event.ev_data), retry])
        if int(event.ev_data) % 10 == 0 and retry == 0:
            event.tag_retry(0)


Recorder("consumer", "db", sys.argv[1:]).start()

"""A cooperative consumer, as one writes it with python-pgq. `hang_at = N` makes it hang when it has done event N."""

import sys
import time

import pgq


class Member(pgq.CoopConsumer):
    def process_event(self, db, event):
        db.cursor().execute(
            "insert into seen (number, retry, member) values (%s, %s, %s)",
            [int(event.ev_data), event.ev_retry or 0, self.subconsumer_name])
        if event.ev_data == self.cf.get("hang_at", ""):
            print("hanging", flush=True)
            time.sleep(3600)


Member("consumer", "db", sys.argv[1:]).start()

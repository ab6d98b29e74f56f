"""Skytools' queue mover, as one writes it with python-pgq: a SerialConsumer that copies a queue to another database."""

import sys

import pgq


class QueueMover(pgq.SerialConsumer):
    def __init__(self, args):
        super().__init__("consumer", "src_db", "dst_db", args)
        self.dst_queue = self.cf.get("dst_queue_name")

    def process_remote_batch(self, db, batch_id, event_list, dst_db):
        fields = ["ev_type", "ev_data", "ev_time", "ev_extra1", "ev_extra2", "ev_extra3", "ev_extra4"]
        rows = [[event[field] for field in fields] for event in event_list]
        pgq.bulk_insert_events(dst_db.cursor(), rows, fields, self.dst_queue)


QueueMover(sys.argv[1:]).start()

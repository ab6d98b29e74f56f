-- What wrote the functions behind insert_event before; make_inserts drops those that they wrote.
drop function if exists tidemill.make_inserts(integer[]), tidemill.make_insert(text, text, text),
    tidemill.insert_group_source(integer), tidemill.insert_static_source(integer[]),
    tidemill.if_tree(text, integer[], text[]);

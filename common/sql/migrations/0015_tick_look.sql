-- It returns other columns now.
drop function if exists tidemill.tick_look();

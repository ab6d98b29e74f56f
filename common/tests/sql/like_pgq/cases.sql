create schema tt; set search_path=tt,public;

create type mood as enum('sad','very happy, "ok"');

create type comp as (a int, b text, c bool);

create domain dint as int; create domain ddate as date; create domain darr as int[]; create domain dd as darr;

create table ty(id int primary key, "Weird ""Name" text, "select" int, "a b&c=%é" text, i2 int2, i8 int8, b bool, f4 float4, f8 float8, n numeric, c char(5), v varchar(9), ch "char", nm name, by bytea, d date, t time, ttz timetz, ts timestamp, tstz timestamptz, iv interval, u uuid, j json, jb jsonb, x xml, ip inet, ci cidr, mac macaddr, bi bit(3), vb varbit, pt point, bx box, ar int[], ta text[], m mood, co comp, di dint, dda ddate, da darr, dd dd, r int4range, oid oid, rc regclass, ty regtype, mo money, ts1 tsvector, cc comp[]);

create trigger l after insert or update or delete on ty for each row execute function pgq.logutriga('q','backup');

create trigger j after insert or update or delete on ty for each row execute function pgq.jsontriga('q','backup');

create trigger s after insert or update or delete on ty for each row execute function pgq.sqltriga('q','backup');

create trigger lt after truncate on ty for each statement execute function pgq.logutriga('q');

create trigger jt after truncate on ty for each statement execute function pgq.jsontriga('q');

create trigger st before truncate on ty for each statement execute function pgq.sqltriga('q','SKIP');

insert into ty values(1,'a"b\c',2,'héllo wörld €',3,4,true,1.5,'NaN',1.10,'ab','x y','c','nam',E'\\x00ff',date '2020-02-03','12:00','12:00+02','2020-01-02 03:04:05.678','2020-01-02 03:04:05+00','1 day 02:00','a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',' {"a": [1, "x"]} ','{"a":1.0}','<a>&amp;</a>','10.0.0.1','10.0.0.0/8','08:00:2b:01:02:03','101','10','(1,2)','((1,2),(3,4))','{1,NULL,3}','{"a,b",NULL,"q\"x",""}','very happy, "ok"','(1,"x y",t)',5,'infinity','{1,2}','{3}','[1,5)',17,'pg_class','int4','12.5','a b','{"(1,\"x y\",t)"}');

insert into ty(id) values(2); insert into ty(id,v,ts,tstz,d,dda) values(3,'','-infinity','infinity','0044-03-15 BC','2020-01-01');

insert into ty(id,"Weird ""Name") values(4,E'\x01\x02"tab\there'),(5,E'\x01'),(6,'(),'),(7,'"'),(8,'""'),(9,','),(10,E'\\'),(11,E'line\nbreak\r~!@#$%^&*()_+-=[]{}|;:'',./<>?`');

update ty set v='new', f8=2, n=1.1, jb='{"a":1.00}', iv='26:00' where id=1;

update ty set n=1.2, f4='-0', j='[1]', x='<b/>', pt='(2,2)', co='(2,,f)', m='sad', r='empty', cc=null, ar='{}' where id=1;

update ty set id=id where id=2;

update ty set id=20 where id=2;

set datestyle='German'; set intervalstyle='iso_8601'; set bytea_output='escape'; set extra_float_digits=-3; set timezone='Asia/Kolkata';

update ty set v='x1', f8=1.23456789012345;

update ty set f8=1.23456789012346;

update ty set tstz='2020-06-01 10:00:00.5+03:30', ts='2020-06-01', d='1999-12-31';

set timezone='America/St_Johns';

update ty set v='x2';

delete from ty where id<9; truncate ty;

reset all; set search_path=tt,public; set client_min_messages=error;

-- options

create table o(k1 int, k2 text, a text, b int, c text, primary key(k2,k1));

create function cmp_run() returns void language plpgsql as $f$ declare s text; begin
 foreach s in array array['insert into o values(1,''k'',''x'',2,''y'')','insert into o values(2,''k'',''x'',null,''foo''),(3,null,null,null,null)','update o set a=''z''','update o set a=a','update o set b=7','update o set b=8,c=''foo''','update o set k1=k1+10','update o set a=null,b=null','delete from o where k1=1','delete from o','truncate o'] loop
 begin execute s; raise exception using errcode='22000', message='ok'; exception when sqlstate '22000' then null; when others then execute format('select pgq.insert_event(''q'',''ERR'',%L)', sqlerrm); end;
 begin execute s; exception when others then execute format('select pgq.insert_event(''q'',''ERR'',%L)', sqlerrm); end;
 end loop; end $f$;

create function cmp(opts text, timing text, ev text) returns void language plpgsql as $f$ declare t text; begin
 foreach t in array array['logutriga','sqltriga','jsontriga'] loop
  execute format('select pgq.insert_event(''q'',''TEST'',%L)', t||timing||opts);
  begin execute format('create trigger x %s %s on o for each %s execute function pgq.%s(%s)', timing, ev, case when ev='truncate' then 'statement' else 'row' end, t, opts);
  perform cmp_run(); exception when others then execute format('select pgq.insert_event(''q'',''ERR'',%L)', sqlerrm); end;
  execute 'drop trigger if exists x on o; truncate o';
 end loop; end $f$;

select cmp(o,t,'insert or update or delete') from unnest(array['after','before']) t, unnest(array['''q''','','''none''',$$'q','SKIP'$$,$$'q','skip'$$,$$'q','backup'$$,$$'q','deny'$$,$$'q','ignore=a'$$,$$'q','ignore=a, b'$$,$$'q','ignore=k1'$$,$$'q','ignore=k1,a','backup'$$,$$'q','pkey=k1'$$,$$'q','pkey=a,k1'$$,$$'q','pkey=b'$$,$$'q','pkey='$$,$$'q','pkey=nothing'$$,$$'q','pkey=k1 , a','ignore=b'$$,$$'q','ignore='$$,$$'q','when=b=2'$$,$$'q','when=b is null','ev_type=null','ev_data=a||b','ev_extra1=k1','ev_extra2=true','ev_extra3=$x$ a $x$||c','ev_extra4=(select count(*) from tt.o x)'$$,$$'q','when=b'$$,$$'q','when=a'$$,$$'q','ev_extra1=1 from generate_series(1,2)'$$,$$'q','ev_extra1=1 where false'$$,$$'q','ev_extra3=k1, k2'$$,$$'q','ev_extra3="a"'$$,$$'q','ev_extra3=A'$$,$$'q','ev_extra3=E''a\'''' || a || ''b a'' -- a'$$,$$'q','ev_extra3=/* a /* b */ a */ a || $z$ a $z$'$$,$$'q','ev_extra3=''a'$$,$$'q','ev_extra3=/* a'$$,$$'q','ev_extra3=o.a'$$,$$'q','ev_extra3=$1'$$,$$'q','ev_extra3=row(a,b)'$$,$$'q','ev_extra3=array[a,c]'$$,$$'q','ev_extra3=1.5e3+b*.5'$$,$$'q','ev_extra3=a','ev_extra3=c','ignore=a','ignore=b'$$,$$'q','ev_type=upper(a)','SKIP'$$,$$'q','ev_extra4=nosuch'$$,$$'q','deny','SKIP'$$,$$'q','backup','bad'$$,$$'q','ev_extra5=a'$$,$$'q','ev_extra1 = a'$$,$$'q','ev_extra1='$$]) o;

select cmp(o,t,'truncate') from unnest(array['after','before']) t, unnest(array['''q''','',$$'q','SKIP'$$,$$'q','backup'$$,$$'q','deny'$$,$$'q','ignore=a'$$,$$'q','pkey=a'$$,$$'q','when=true'$$,$$'q','ev_type=1','bad'$$,$$'q','bad'$$]) o;

create table mg(id int primary key, _pgq_ev_type text, _pgq_ev_data text, _pgq_ev_extra1 text, _pgq_ev_extra2 text, _pgq_ev_extra4 text, a text, i text);

create trigger m1 after insert or update or delete on mg for each row execute function pgq.logutriga('q','backup');

create trigger m2 after insert or update or delete on mg for each row execute function pgq.jsontriga('q','ignore=i');

create trigger m3 after insert or update or delete on mg for each row execute function pgq.sqltriga('q','ev_type=$$E$$||id');

insert into mg values(1,'T','D','1','2','4','a','i'); insert into mg values(2); update mg set _pgq_ev_type='x'; update mg set a='b'; update mg set i='j'; update mg set i='k',_pgq_ev_data='dd'; delete from mg;

alter table mg add _pgq_ev_bad int; insert into mg values(1);

create table nopk(a int, b text); create trigger n after insert or update or delete on nopk for each row execute function pgq.logutriga('q');

insert into nopk values(1,'x'); update nopk set a=2; delete from nopk;

create trigger nn after insert on nopk for each statement execute function pgq.logutriga('q'); insert into nopk values(1,'y'); drop trigger nn on nopk;

create trigger nn after insert on nopk for each statement execute function pgq.jsontriga(); insert into nopk values(1,'y'); drop trigger nn on nopk;

create table zero(); create trigger z after insert on zero for each row execute function pgq.logutriga('q'); create trigger z2 after insert on zero for each row execute function pgq.jsontriga('q'); create trigger z3 after insert on zero for each row execute function pgq.sqltriga('q'); insert into zero default values;

set session_replication_role=local; insert into o values(1,'a'); create trigger x after insert on o for each row execute function pgq.logutriga('q','deny'); insert into o values(2,'a'); create trigger x2 before insert on o for each row execute function pgq.sqltriga('q','SKIP'); insert into o values(9,'a'); select count(*) from o;

set session_replication_role=replica; insert into o values(3,'a'); alter table o enable always trigger x; insert into o values(4,'a'); reset session_replication_role;

alter table nopk add c int, drop a; insert into nopk values('n',5); alter table nopk rename c to "D"; insert into nopk values('n',6);

create view vv as select 1 a; create trigger v instead of insert on vv for each row execute function pgq.logutriga('q'); insert into vv values(3);

create table part(id int primary key, a text) partition by list(id); create table part1 partition of part for values in (1,2); create trigger p after insert or update or delete on part for each row execute function pgq.logutriga('q'); insert into part values(1,'x'); update part set a='y'; delete from part;

create table incl(id int, a text, b text, primary key(id) include (a)); create trigger p after insert or update or delete on incl for each row execute function pgq.jsontriga('q'); insert into incl values(1,'x','y'); update incl set b='z'; update incl set a='z';
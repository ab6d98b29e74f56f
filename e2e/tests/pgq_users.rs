//! The chapter for users of PgQ: its SQL runs as it stands (`sql`; blocks marked `pgsql` need what the reader has).

use std::path::Path;

use tidemill_common::testing::Cluster;

#[tokio::test]
async fn the_sql_of_the_chapter_runs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pgq-users.md");
    let chapter = std::fs::read_to_string(path).expect("the chapter");
    let db = Cluster::shared().database().await;
    let client = db.client().await;
    let blocks: Vec<_> =
        chapter.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for statement in blocks.iter().flat_map(|block| block.lines()) {
        client.batch_execute(statement).await.unwrap_or_else(|error| {
            panic!("{statement}: {}", tidemill_common::error_chain(&error));
        });
    }
}

use axum::body::to_bytes;

use super::*;

async fn body(response: Response) -> (StatusCode, String) {
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 100_000).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

fn admin() -> Admin {
    Admin {
        beats: Beats::default(),
        readiness: Readiness::default(),
        metrics: Registry::new(),
        shutdown: Shutdown::new(),
        stalled_after: Duration::from_secs(60),
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_is_dead_if_one_pass_takes_too_long_but_may_wait_for_ever() {
    let admin = admin();
    let beat = admin.beats.join("tick[jobs]".to_owned());
    let live = async || body(livez(State(admin.clone())).await).await;
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(live().await, (StatusCode::OK, "ok\n".to_owned()));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(live().await, (StatusCode::SERVICE_UNAVAILABLE, "stalled: tick[jobs]\n".to_owned()));
    {
        let _waiting = beat.waiting();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(live().await.0, StatusCode::OK);
    }
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(live().await.0, StatusCode::SERVICE_UNAVAILABLE);
    drop(beat);
    assert_eq!(live().await.0, StatusCode::OK);
}

#[tokio::test]
async fn ready_when_every_condition_holds_and_not_while_stopping() {
    let admin = admin();
    let (database, schema) =
        (admin.readiness.condition("database jobs"), admin.readiness.condition("schema jobs"));
    let ready = async || body(readyz(State(admin.clone())).await).await;
    let text = "not ready: database jobs\nnot ready: schema jobs\n".to_owned();
    assert_eq!(ready().await, (StatusCode::SERVICE_UNAVAILABLE, text));
    database.met();
    schema.clone().met();
    assert_eq!(ready().await.0, StatusCode::OK);
    admin.readiness.all_met().await;
    database.unmet();
    assert_eq!(ready().await.1, "not ready: database jobs\n");
    database.forget();
    assert_eq!(ready().await.0, StatusCode::OK);
    admin.shutdown.begin();
    assert_eq!(ready().await.1, "not ready: shutting down\n");
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let admin = admin();
    super::super::metrics::describe(&admin.metrics, "ticker", &[]).unwrap();
    let (status, text) = body(metrics(State(admin)).await).await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("tidemill_build_info{service=\"ticker\""), "{text}");
}

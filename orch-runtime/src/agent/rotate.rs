//! Rotating the logs of running containers.

use super::{context::Context, view::NODE};
use std::{path::Path, sync::Arc, time::Duration};

/// Time between looks at the sizes.
const LOOK: Duration = Duration::from_secs(10);

/// Rotates logs until the agent shuts down.
pub(super) async fn keep_logs(ctx: Arc<Context>) {
    if ctx.config.log_max_bytes == 0 {
        return;
    }
    loop {
        ctx.env.clock.sleep(LOOK).await;
        let containers = ctx.runtime.list().await.unwrap_or_default();
        let ours = containers
            .iter()
            .filter(|c| c.labels.get(NODE).is_some_and(|n| *n == ctx.config.name));
        for container in ours.filter(|c| c.phase.is_running()) {
            rotate(&ctx, container).await;
        }
    }
}

async fn rotate(ctx: &Context, container: &crate::runtime::ContainerState) {
    let path: &Path = &container.log_path;
    let stamp = ctx.env.clock.now().strftime("%Y%m%d-%H%M%S").to_string();
    let rotated = ctx
        .files
        .rotate_log(path, ctx.config.log_max_bytes, ctx.config.log_max_files, &stamp)
        .await;
    let aside = match rotated {
        Ok(Some(aside)) => aside,
        Ok(None) => return,
        Err(error) => return tracing::warn!(container = %container.id, %error, "cannot rotate a log"),
    };
    // Until it is opened anew the runtime goes on writing to the file that was moved.
    if let Err(error) = ctx.runtime.reopen_log(&container.id).await {
        tracing::warn!(container = %container.id, aside = %aside.display(), %error, "cannot reopen a log");
    }
}

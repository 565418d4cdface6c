//! Several authorizers as one: the first that has an opinion decides.

use super::{Attributes, Authorizer, Decision, Rules};
use crate::server::ObjectReader;
use async_trait::async_trait;
use orch_core::UserInfo;
use std::sync::Arc;

/// Asks each in order.
pub struct Union(Vec<Arc<dyn Authorizer>>);

impl Union {
    /// Asks `authorizers` in order.
    #[must_use]
    pub fn new(authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        Self(authorizers)
    }
}

impl std::fmt::Debug for Union {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Union({})", self.0.len())
    }
}

#[async_trait]
impl Authorizer for Union {
    fn attach(&self, reader: Arc<dyn ObjectReader>) {
        for authorizer in &self.0 {
            authorizer.attach(reader.clone());
        }
    }

    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let mut reasons = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(attributes).await {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    async fn rules(&self, user: &UserInfo, namespace: &str) -> Rules {
        let mut all = Rules::default();
        let mut errors = Vec::new();
        for authorizer in &self.0 {
            let rules = authorizer.rules(user, namespace).await;
            all.resource_rules.extend(rules.resource_rules);
            all.non_resource_rules.extend(rules.non_resource_rules);
            all.incomplete |= rules.incomplete;
            if !rules.evaluation_error.is_empty() {
                errors.push(rules.evaluation_error);
            }
        }
        all.evaluation_error = errors.join(", ");
        all
    }
}

//! Jobs: pods that run to their end, so many times, and deletion of finished Jobs after their time to live. Behaviour of
//! upstream's `pkg/controller/job` and `ttlafterfinished`. Not here: limits per index, success policies.

mod indexes;
mod manage;
mod plan;
mod policy;
mod status;

use crate::shared::{
    Context, PODS_BY_CONTROLLER, adopt,
    overlay::Overlay,
    text, uid,
    write::{create_pod, delete_pod, is_namespace_terminating, pod_from_template, slow_start},
};
use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::{
    batch::v1::{Job, JobStatus},
    core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
};
use orch_core::{
    ObjectKey, Status,
    client::Patch,
    controller::{
        Action, Controller, Error, EventRecorder, Reconciler, controller_of,
        events::EventType::{Normal, Warning},
        owner_reference,
    },
    informer::Informer,
    selector::LabelSelector,
};
use parking_lot::Mutex;
use plan::{FINALIZER, INDEX, Observed, Plan, is_indexed};
use policy::Backoff;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

#[derive(Default)]
struct Memory {
    backoff: BTreeMap<ObjectKey, Backoff>,
    /// Pods whose finalizer was removed, though the copy may still show it.
    released: BTreeMap<ObjectKey, BTreeSet<String>>,
}

struct Jobs {
    ctx: Context,
    jobs: Informer<Job>,
    pods: Informer<Pod>,
    recorder: EventRecorder,
    pod_overlay: Overlay<Pod>,
    job_overlay: Overlay<Job>,
    memory: Mutex<Memory>,
}

/// The Job controller.
#[must_use]
pub fn controller(ctx: &Context) -> Controller {
    let jobs = ctx.informers.informer::<Job>();
    let pods = ctx.pods();
    let reconciler = Arc::new(Jobs {
        ctx: ctx.clone(),
        jobs: jobs.clone(),
        pods: pods.clone(),
        recorder: ctx.recorder("job-controller"),
        pod_overlay: Overlay::default(),
        job_overlay: Overlay::default(),
        memory: Mutex::default(),
    });
    Controller::new("job", &ctx.env, reconciler)
        .workers(ctx.config.workers)
        .watch(&jobs)
        .watch_owned::<Job, Pod>(&pods)
}

#[async_trait]
impl Reconciler for Jobs {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let version = self.jobs.raw().resource_version();
        let Some(cached) = self.jobs.lister().get(key) else {
            self.forget(key);
            self.release_orphans(key).await?;
            return Ok(Action::AwaitChange);
        };
        let job_uid = uid(&cached.metadata).to_owned();
        let seen = self.job_overlay.apply(key, vec![cached.clone()], &version);
        let job = seen
            .into_iter()
            .find(|j| uid(&j.metadata) == job_uid)
            .unwrap_or(cached);
        let spec = job.spec.clone().unwrap_or_default();
        if spec
            .managed_by
            .as_deref()
            .is_some_and(|m| m != "kubernetes.io/job-controller")
        {
            return Ok(Action::AwaitChange);
        }
        if status::is_finished(&job) {
            self.release_orphans(key).await?;
            return self.expire(key, &job).await;
        }
        let now = self.ctx.env.clock.now();
        let observed = self.observe(key, job).await?;
        let plan = plan::plan(&observed, now);
        let next = plan.next_check;
        self.apply(key, &observed.job, plan).await?;
        Ok(next.map_or(Action::AwaitChange, Action::After))
    }
}

impl Jobs {
    fn forget(&self, key: &ObjectKey) {
        self.pod_overlay.forget(key);
        self.job_overlay.forget(key);
        let mut memory = self.memory.lock();
        memory.backoff.remove(key);
        memory.released.remove(key);
    }

    async fn observe(&self, key: &ObjectKey, job: Arc<Job>) -> Result<Observed, Error> {
        let selector = LabelSelector::from_api(job.spec.as_ref().and_then(|s| s.selector.as_ref()))
            .map_err(|e| Error::Invalid(format!("selector: {e}")))?;
        let version = self.pods.raw().resource_version();
        let lister = self.pods.lister();
        let mut all = lister.by_index(PODS_BY_CONTROLLER, uid(&job.metadata));
        all.extend(lister.by_index(PODS_BY_CONTROLLER, &format!("/{}", key.namespace)));
        let all = self.pod_overlay.apply(key, all, &version);
        let claims = adopt::plan_claims(&job.metadata, &selector, all);
        let pods = adopt::apply_claims(&self.ctx, &*job, claims).await?;
        let mut memory = self.memory.lock();
        let released = memory.released.entry(key.clone()).or_default();
        released.retain(|uid| {
            pods.iter()
                .any(|p| self::uid(&p.metadata) == uid && has_finalizer(p))
        });
        let released = released.clone();
        let backoff = memory.backoff.get(key).cloned().unwrap_or_default();
        Ok(Observed {
            job,
            pods,
            released,
            backoff,
            burst: self.ctx.config.burst_replicas,
        })
    }

    async fn apply(&self, key: &ObjectKey, job: &Arc<Job>, mut plan: Plan) -> Result<(), Error> {
        let api = self.ctx.api::<Pod>(&key.namespace);
        let deletes = plan.delete.iter().map(|pod| async {
            delete_pod(&api, &self.recorder, &**job, pod).await?;
            self.pod_overlay.deleted(key, uid(&pod.metadata));
            Ok::<(), Status>(())
        });
        if let Some(error) = join_all(deletes).await.into_iter().find_map(Result::err) {
            return Err(error.into());
        }
        let (created, creation) = slow_start(plan.create.len(), |n| {
            let pod = self.pod(job, plan.create[n]);
            let api = &api;
            async move {
                match create_pod(api, &self.recorder, &**job, &pod).await {
                    Ok(pod) => {
                        self.pod_overlay.created(key, pod);
                        Ok(())
                    }
                    Err(error) if is_namespace_terminating(&error) => Ok(()),
                    Err(error) => Err(error),
                }
            }
        })
        .await;
        let missed = i32::try_from(plan.create.len() - created).unwrap_or(0);
        plan.status.active = plan.status.active.map(|n| n - missed).filter(|n| *n != 0);
        for (reason, message) in &plan.events {
            self.recorder.record(&**job, Normal, reason, *message);
        }
        let written = self.write(key, job, plan.status.clone()).await?;
        self.memory
            .lock()
            .backoff
            .insert(key.clone(), plan.backoff.clone());
        self.release(key, &mut plan).await?;
        self.finish(key, &written, plan).await?;
        creation.map_err(Error::from)
    }

    /// Writes the status if it differs, and answers with the Job as it is then.
    async fn write(&self, key: &ObjectKey, job: &Arc<Job>, status: JobStatus) -> Result<Arc<Job>, Error> {
        if job.status.as_ref() == Some(&status) {
            return Ok(job.clone());
        }
        let mut new = (**job).clone();
        new.status = Some(status);
        let written = self.ctx.api::<Job>(&key.namespace).replace_status(&new).await?;
        self.job_overlay.created(key, written.clone());
        Ok(written)
    }

    async fn release(&self, key: &ObjectKey, plan: &mut Plan) -> Result<(), Error> {
        let releases = plan.release.iter().map(|pod| self.remove_finalizer(pod));
        let outcomes = join_all(releases).await;
        let mut failure = Ok(());
        for (pod, outcome) in plan.release.iter().zip(outcomes) {
            let pod_uid = uid(&pod.metadata);
            match outcome {
                Ok(()) => {
                    plan.tracked.remove(pod_uid);
                    self.memory
                        .lock()
                        .released
                        .entry(key.clone())
                        .or_default()
                        .insert(pod_uid.to_owned());
                }
                Err(error) => failure = Err(error.into()),
            }
        }
        failure
    }

    /// Counts what was released, and ends the Job if all is counted.
    async fn finish(&self, key: &ObjectKey, job: &Arc<Job>, plan: Plan) -> Result<(), Error> {
        let indexed = job.spec.as_ref().is_some_and(is_indexed);
        let mut status = plan.status;
        status::settle(&mut status, &plan.tracked, indexed);
        let ended = plan
            .end
            .as_ref()
            .is_some_and(|end| status::finish(&mut status, end, self.ctx.env.clock.now()));
        self.write(key, job, status).await?;
        if let Some(end) = plan.end.filter(|_| ended) {
            if end.success {
                self.recorder.record(&**job, Normal, "Completed", "Job completed");
            } else {
                self.recorder.record(&**job, Warning, &end.reason, end.message);
            }
        }
        Ok(())
    }

    async fn remove_finalizer(&self, pod: &Pod) -> Result<(), Status> {
        let rest: Vec<_> = pod
            .metadata
            .finalizers
            .iter()
            .flatten()
            .filter(|f| *f != FINALIZER)
            .collect();
        let patch = json!({"metadata": {
            "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version, "finalizers": rest,
        }});
        let api = self.ctx.api::<Pod>(text(&pod.metadata.namespace));
        match api.patch(text(&pod.metadata.name), Patch::merge(patch)).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Pods of a Job that is gone or has finished are not counted by anybody any more.
    async fn release_orphans(&self, key: &ObjectKey) -> Result<(), Error> {
        let current = self.jobs.lister().get(key).filter(|j| !status::is_finished(j));
        for pod in self
            .pods
            .lister()
            .list_in(&key.namespace)
            .iter()
            .filter(|p| has_finalizer(p))
        {
            let Some(owner) = controller_of(&pod.metadata) else {
                continue;
            };
            let counted = current.as_ref().is_some_and(|j| uid(&j.metadata) == owner.uid);
            if owner.kind == "Job" && owner.name == key.name && !counted {
                self.remove_finalizer(pod).await?;
            }
        }
        Ok(())
    }

    async fn expire(&self, key: &ObjectKey, job: &Job) -> Result<Action, Error> {
        self.forget(key);
        let Some(at) = status::expires_at(job) else {
            return Ok(Action::AwaitChange);
        };
        if crate::shared::is_deleting(&job.metadata) {
            return Ok(Action::AwaitChange);
        }
        let wait = Duration::try_from(at.duration_since(self.ctx.env.clock.now())).unwrap_or_default();
        if !wait.is_zero() {
            return Ok(Action::After(wait));
        }
        let preconditions =
            json!({"uid": job.metadata.uid, "resourceVersion": job.metadata.resource_version});
        let options = json!({"propagationPolicy": "Foreground", "preconditions": preconditions});
        match self
            .ctx
            .api::<Job>(&key.namespace)
            .delete(&key.name, options)
            .await
        {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Action::AwaitChange),
        }
    }

    /// A pod of the Job, for an index if it has indexes.
    fn pod(&self, job: &Job, index: Option<i32>) -> Pod {
        let template = job.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
        let name = text(&job.metadata.name);
        let mut pod = pod_from_template(&template, name, owner_reference(job));
        let finalizers = pod.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        let Some(index) = index else { return pod };
        let prefix = format!("{name}-{index}-");
        // The server cuts a prefix that is too long at its end; the index must survive.
        let prefix = if prefix.len() > 58 {
            format!("{}-{index}-", &name[..name.len().min(46)])
        } else {
            prefix
        };
        pod.metadata.generate_name = Some(prefix);
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert(INDEX.into(), index.to_string());
        pod.metadata
            .labels
            .get_or_insert_default()
            .insert(INDEX.into(), index.to_string());
        if let Some(spec) = &mut pod.spec {
            spec.hostname = Some(format!("{name}-{index}"));
            for container in spec
                .containers
                .iter_mut()
                .chain(spec.init_containers.iter_mut().flatten())
            {
                add_index_variable(container.env.get_or_insert_default());
            }
        }
        pod
    }
}

fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

/// `JOB_COMPLETION_INDEX`, from the pod's own label.
fn add_index_variable(env: &mut Vec<EnvVar>) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    if env.iter().any(|e| e.name == NAME) {
        return;
    }
    let field_ref = ObjectFieldSelector {
        api_version: None,
        field_path: format!("metadata.labels['{INDEX}']"),
    };
    env.push(EnvVar {
        name: NAME.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(field_ref),
            ..EnvVarSource::default()
        }),
    });
}

#[cfg(test)]
mod tests;

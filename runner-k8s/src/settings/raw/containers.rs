//! What is beside and around the job's containers: services, host names, hooks, patches, pause
//! pods.

use super::kinds::RawDuration;
use super::tables::table;

table! {
    /// `[[runners.kubernetes.services]]`: comes before the job's own services.
    RawService {
        /// Image; `$VAR` allowed; one that is empty then is skipped.
        name: String,
        /// Aliases, separated by spaces or commas; `$VAR` allowed.
        alias: String,
        /// `args` of the container. Default: the image's.
        command: Vec<String>,
        /// `command` of the container. Default: the image's.
        entrypoint: Vec<String>,
        /// Entries `KEY=value`; `$VAR` allowed in values.
        environment: Vec<String>,
        /// Accepted and ignored: environments cannot be suspended in this release.
        suspend_data_path: String
            [ignored("environments cannot be suspended in this release")],
    }
}

table! {
    /// `host_aliases`: an entry of `spec.hostAliases`, after the services' own.
    RawHostAlias {
        /// Address; must be one.
        ip: String,
        /// Names for it.
        hostnames: Vec<String>,
    }
}

table! {
    /// `dns_config`, lands in `spec.dnsConfig`.
    RawDnsConfig {
        /// Addresses of name servers.
        nameservers: Vec<String>,
        /// Domains to search in.
        searches: Vec<String>,
        /// Options of the resolver.
        options: Vec<RawDnsOption>,
    }
}

table! {
    /// `dns_config.options`.
    RawDnsOption {
        /// E.g. `ndots`.
        name: String,
        /// Its value. Default: none.
        value: Option<String>,
    }
}

table! {
    /// `container_lifecycle`, lands in `lifecycle` of build, helper and services.
    RawLifecycle {
        /// After the container has started.
        post_start: Option<RawHandler>,
        /// Before the container is ended.
        pre_stop: Option<RawHandler>,
    }
}

table! {
    /// One of the three must be given.
    RawHandler {
        /// Run a command in the container.
        exec: Option<RawExec>,
        /// Send a request.
        http_get: Option<RawHttpGet>,
        /// Open a connection.
        tcp_socket: Option<RawTcpSocket>,
    }
}

table! {
    /// `exec`.
    RawExec {
        /// Program and arguments.
        command: Vec<String>,
    }
}

table! {
    /// `http_get`.
    RawHttpGet {
        /// Default: the pod's address.
        host: String,
        /// Default: `/`.
        path: String,
        /// 1 to 65535.
        port: i64,
        /// `HTTP` or `HTTPS`. Default: HTTP.
        scheme: String [known(&["HTTP", "HTTPS"])],
        /// Headers of the request.
        http_headers: Vec<RawHeader>,
    }
}

table! {
    /// `http_get.http_headers`.
    RawHeader {
        /// Name.
        name: String,
        /// Value.
        value: String,
    }
}

table! {
    /// `tcp_socket`.
    RawTcpSocket {
        /// Default: the pod's address.
        host: String,
        /// 1 to 65535.
        port: i64,
    }
}

table! {
    /// `[[runners.kubernetes.pod_spec]]`: changes the finished `spec`, in order, when
    /// `FF_USE_ADVANCED_POD_SPEC_CONFIGURATION` is on.
    RawPodPatch {
        /// For messages.
        name: String,
        /// A file on the manager that is read for each job; not together with `patch`.
        patch_path: String,
        /// The patch as YAML or JSON.
        patch: String,
        /// `strategic` (default), `merge` or `json`.
        patch_type: String [default("\"strategic\""), known(&["strategic", "merge", "json"])],
    }
}

table! {
    /// `autoscaler`: a Deployment of pods that keep room for jobs and go when one needs it.
    RawAutoscaler {
        /// Most pause pods; 0: no limit.
        max_pause_pods: i64,
        /// Their image. Default: `registry.k8s.io/pause:3.10`.
        pause_pod_image: String [default("\"registry.k8s.io/pause:3.10\"")],
        /// Their priority class. Default: `gitlab-runner-idle-capacity`.
        pause_pod_priority_class_name: String [default("\"gitlab-runner-idle-capacity\"")],
        /// Their pull secrets.
        pause_pod_image_pull_secrets: Vec<String>,
        /// How many at which times; the last one that matches wins.
        policy: Vec<RawAutoscalerPolicy>,
    }
}

table! {
    /// `autoscaler.policy`.
    RawAutoscalerPolicy {
        /// Cron expressions of five fields. Default: always.
        periods: Vec<String>,
        /// Time zone of the periods. Default: the manager's.
        timezone: String,
        /// How many pause pods.
        idle_count: i64,
        /// How long a pause pod that is too many stays.
        idle_time: RawDuration,
        /// Pause pods for each running job; 0: off.
        scale_factor: f64,
        /// Most pause pods that follow from `scale_factor`; 0: no limit.
        scale_factor_limit: i64,
        /// Without effect on Kubernetes.
        preemptive_mode: Option<bool>
                [ignored("pause pods are made when they are wanted")],
    }
}

table! {
    /// `[[runners.kubernetes.warm_pods]]`, Podwright's own: pods that run before their job is there.
    RawWarmPods {
        /// The build container's image, as jobs write it. Must be set.
        image: String,
        /// How many are kept ready.
        count: i64,
        /// Cron expressions of five fields: when. Default: always.
        periods: Vec<String>,
        /// Time zone of the periods. Default: the manager's.
        timezone: String,
        /// Age at which a pod that nobody took is replaced, at least a minute. Default: 1h.
        max_age: RawDuration [default("\"1h\"")],
    }
}

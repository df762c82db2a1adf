//! A Kubernetes of one node, from inside the namespaces that [`super::namespace`] made for it.
//!
//! ```text
//! loopback: 10.96.0.1 (API), 10.77.0.1 (node)
//! etcd, kube-apiserver, controller-manager, scheduler     children
//! unshare -> tests/node/init -> containerd, kubelet       the node: one process to kill
//! ```
//!
//! 1. The network is its own, so addresses, ports and tokens may be fixed.
//! 2. A reboot is the end of the node's first process and its start on the same folder.
//! 3. Whoever drops it kills all of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::manifests::place;
use super::namespace::remove;
use crate::build::root;
use crate::packages::{output, run};

/// The cluster's folders and processes.
#[derive(Debug)]
pub(super) struct Cluster {
    dir: PathBuf,
    programs: PathBuf,
    cgroup: String,
    control: Vec<(String, Child)>,
    node: Option<Child>,
}

impl Cluster {
    /// Starts the control plane and the node, and waits until it takes pods.
    pub(super) fn start(dir: &Path, programs: &Path, cgroup: &str) -> Result<Self> {
        let mut cluster = Self {
            dir: dir.to_owned(),
            programs: programs.to_owned(),
            cgroup: cgroup.to_owned(),
            control: Vec::new(),
            node: None,
        };
        cluster.lay_out()?;
        cluster.start_control()?;
        cluster.boot()?;
        Ok(cluster)
    }

    /// Where the node's state lies, with `log/` as its `/var/log`.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs kubectl; gives what it printed.
    pub(super) fn kubectl(&self, words: &[&str]) -> Result<String> {
        output(self.kubectl_command().args(words))
    }

    /// Applies a manifest.
    pub(super) fn apply(&self, manifest: &str) -> Result<()> {
        let file = self.dir.join("manifest.yaml");
        fs::write(&file, manifest)?;
        output(self.kubectl_command().args(["apply", "-f"]).arg(&file)).map(drop)
    }

    /// Kills the process of this name, SIGKILL; false when there is none.
    pub(super) fn kill(&self, name: &str) -> Result<bool> {
        let mut killed = false;
        for pid in processes(name)? {
            let pid = rustix::process::Pid::from_raw(pid).context("a process id")?;
            killed |= rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok();
        }
        Ok(killed)
    }

    /// The node's end, as by a power cut.
    pub(super) fn cut_power(&mut self) -> Result<()> {
        if let Some(mut node) = self.node.take() {
            // The first process dies with its parent, and with it all others.
            node.kill()?;
            node.wait()?;
            until(REBOOT_LIMIT, "the node's end", || {
                Ok(processes("kubelet")?.is_empty())
            })?;
            // As a reboot would: the kubelet spends 3 s on each container that has left its cgroup.
            remove(&self.cgroup)?;
        }
        Ok(())
    }

    /// The node's start; waits until it is Ready.
    pub(super) fn boot(&mut self) -> Result<()> {
        make_cgroups(&self.cgroup)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("init.out"))?;
        let init = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--propagation", "private"])
            .args(["--kill-child=KILL", "/bin/sh"])
            .arg(root().join("tests/node/init"))
            .arg(&self.dir)
            .arg(&self.programs)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start the node")?;
        self.node = Some(init);
        let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}{.spec.taints}";
        until(READY_LIMIT, "the node is not Ready", || {
            self.check()?;
            let said = self.kubectl(&["get", "node", "node", "-o", ready]);
            let account = self.kubectl(&["get", "serviceaccount", "default"]);
            Ok(said.is_ok_and(|said| said == "True") && account.is_ok())
        })
    }

    /// Fails when a part that is not kept alive has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        let named = self
            .control
            .iter_mut()
            .map(|(name, child)| (name.as_str(), child));
        for (name, child) in named.chain(self.node.iter_mut().map(|node| ("init", node))) {
            if let Some(status) = child.try_wait()? {
                let log = fs::read_to_string(self.dir.join(format!("{name}.out")));
                let log = log.unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let tail = &lines[lines.len().saturating_sub(15)..];
                bail!("{name} ended with {status}:\n{}", tail.join("\n"));
            }
        }
        Ok(())
    }

    fn kubectl_command(&self) -> Command {
        let mut command = Command::new(self.programs.join("kubectl"));
        command
            .env("KUBECONFIG", self.dir.join("admin.kubeconfig"))
            .env("KUBECACHEDIR", self.dir.join("kubectl-cache"));
        command
    }

    fn lay_out(&self) -> Result<()> {
        for folder in FOLDERS {
            fs::create_dir_all(self.dir.join(folder))?;
        }
        let dir = self.dir.display().to_string();
        let values = [("DIR", dir.as_str()), ("CGROUP", self.cgroup.as_str())];
        for file in ["containerd.toml", "kubelet.yaml"] {
            place(file, &self.dir.join(file), &values)?;
        }
        place("cni.json", &self.dir.join("cni/none.conflist"), &[])?;
        fs::copy(
            root().join("deploy/seccomp/tailwake.json"),
            self.dir.join("kubelet/seccomp/tailwake.json"),
        )?;
        let mut tokens = String::new();
        for (user, name, groups) in USERS {
            tokens.push_str(&format!("{user}-token,{name},{user},{groups}\n"));
            let token = format!("{user}-token");
            let values = [("DIR", dir.as_str()), ("TOKEN", &token)];
            place(
                "kubeconfig.yaml",
                &self.dir.join(format!("{user}.kubeconfig")),
                &values,
            )?;
        }
        fs::write(self.dir.join("tokens.csv"), tokens)?;
        self.certify()
    }

    /// The key of service accounts, and the certificate by which the kubelet knows the API server.
    fn certify(&self) -> Result<()> {
        let openssl = |line: &str| {
            let words = line.split(' ');
            output(Command::new("openssl").current_dir(&self.dir).args(words))
        };
        if self.dir.join("service.key").exists() {
            return Ok(());
        }
        openssl("ecparam -name prime256v1 -genkey -noout -out service.key")?;
        openssl("ec -in service.key -pubout -out service.pub")?;
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!(
            "req -x509 {new} -days 30 -subj /CN=node-ca -keyout certificates/ca.key \
             -out certificates/ca.crt"
        ))?;
        openssl(&format!(
            "req {new} -subj /O=system:masters/CN=apiserver -keyout certificates/client.key \
             -out certificates/client.csr"
        ))?;
        openssl(
            "x509 -req -in certificates/client.csr -CA certificates/ca.crt -CAkey \
             certificates/ca.key -CAcreateserial -days 30 -out certificates/client.crt",
        )?;
        Ok(())
    }

    fn start_control(&mut self) -> Result<()> {
        run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        for address in ["10.96.0.1/32", "10.77.0.1/32"] {
            run(Command::new("ip").args(["address", "add", address, "dev", "lo"]))?;
        }
        self.control("etcd", ETCD)?;
        self.control("kube-apiserver", API_SERVER)?;
        until(READY_LIMIT, "the API server is not ready", || {
            self.check()?;
            Ok(self.kubectl(&["get", "--raw", "/readyz"]).is_ok())
        })?;
        self.control("kube-controller-manager", CONTROLLER_MANAGER)?;
        self.control("kube-scheduler", SCHEDULER)
    }

    fn control(&mut self, name: &str, line: &str) -> Result<()> {
        let log = File::create(self.dir.join(format!("{name}.out")))?;
        let child = Command::new(self.programs.join(name))
            .current_dir(&self.dir)
            .args(line.split_whitespace())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        self.control.push((name.to_owned(), child));
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.cut_power();
        for (_, child) in &mut self.control {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for a condition; says what was waited for when it does not come.
pub(super) fn until(
    limit: Duration,
    what: &str,
    mut reached: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let begun = Instant::now();
    while !reached()? {
        ensure!(
            begun.elapsed() < limit,
            "{what} (within {} s)",
            limit.as_secs()
        );
        std::thread::sleep(POLL_EVERY);
    }
    Ok(())
}

/// Processes of this name. The PID namespace holds nothing but ours.
pub(super) fn processes(name: &str) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse().ok()) else {
            continue;
        };
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        // A zombie has no more memory map.
        let lives = fs::read_link(entry.path().join("exe")).is_ok();
        if lives && comm.trim_end() == name {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The node's cgroup in every hierarchy of version 1, or in the one of version 2.
pub(super) fn cgroups(name: &str) -> Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.join(name)]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.join("cgroup.procs").exists() && !path.is_symlink() {
            found.push(path.join(name));
        }
    }
    Ok(found)
}

fn make_cgroups(name: &str) -> Result<()> {
    for path in cgroups(name)? {
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        // An empty cpuset takes no process.
        for mask in ["cpuset.cpus", "cpuset.mems"] {
            let above = path.parent().unwrap_or(&path).join(mask);
            if let Ok(text) = fs::read(above) {
                let _ = fs::write(path.join(mask), text);
            }
        }
    }
    Ok(())
}

const FOLDERS: [&str; 12] = [
    "certificates",
    "log/pods",
    "log/containers",
    "kubelet/seccomp",
    "kubelet/plugins",
    "containerd/opt",
    "cni",
    "static",
    "settings",
    "state",
    "journal",
    "etcd",
];

/// Files' names, users and groups, as the API server's token file wants them.
const USERS: [(&str, &str, &str); 4] = [
    ("admin", "admin", "\"system:masters\""),
    ("node", "system:node:node", "\"system:nodes\""),
    ("controller", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
];

// Nothing here outlives the test, so nothing is synced.
const ETCD: &str = "--name node --data-dir etcd --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster node=http://127.0.0.1:2380";
const API_SERVER: &str = "--etcd-servers http://127.0.0.1:2379 --bind-address 10.96.0.1 \
    --secure-port 443 --advertise-address 10.96.0.1 --endpoint-reconciler-type none \
    --cert-dir certificates --token-auth-file tokens.csv --authorization-mode Node,RBAC \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-signing-key-file service.key --service-account-key-file service.pub \
    --service-cluster-ip-range 10.96.0.0/16 --allow-privileged=true \
    --enable-admission-plugins NodeRestriction \
    --kubelet-client-certificate certificates/client.crt \
    --kubelet-client-key certificates/client.key --kubelet-preferred-address-types InternalIP";
const CONTROLLER_MANAGER: &str = "--kubeconfig controller.kubeconfig \
    --authentication-kubeconfig controller.kubeconfig \
    --authorization-kubeconfig controller.kubeconfig \
    --service-account-private-key-file service.key \
    --root-ca-file certificates/apiserver.crt --leader-elect=false --bind-address 127.0.0.1 \
    --use-service-account-credentials=true --node-monitor-period 1s \
    --flex-volume-plugin-dir kubelet/plugins --kube-api-qps 500 --kube-api-burst 1000";
const SCHEDULER: &str = "--kubeconfig scheduler.kubeconfig \
    --authentication-kubeconfig scheduler.kubeconfig \
    --authorization-kubeconfig scheduler.kubeconfig --leader-elect=false \
    --bind-address 127.0.0.1";

// On two busy cores a node was Ready in 24 s at the worst.
const READY_LIMIT: Duration = Duration::from_secs(120);
const REBOOT_LIMIT: Duration = Duration::from_secs(20);
const POLL_EVERY: Duration = Duration::from_millis(100);

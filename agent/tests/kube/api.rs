//! A real etcd and kube-apiserver on loopback, without a cluster: the test makes nodes' pods itself, and
//! deletes them in kubelet's place.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// The account that the agent runs as.
const ACCOUNT: &str = "system:serviceaccount:default:tailwake";

/// Both servers, killed when this is dropped.
pub(crate) struct Api {
    dir: PathBuf,
    programs: PathBuf,
    etcd: Child,
    server: Option<Child>,
    ports: [u16; 3],
    account: String,
    /// Requests of parts before.
    told: Cell<usize>,
}

impl Api {
    /// Starts both, with the namespace `ns` and an account that may list and watch pods.
    pub(crate) fn start(dir: &Path, programs: &Path) -> Self {
        fs::create_dir_all(dir.join("etcd")).unwrap();
        fs::write(
            dir.join("tokens.csv"),
            "admin,admin,admin,\"system:masters\"\n",
        )
        .unwrap();
        for words in [
            "ecparam -name prime256v1 -genkey -noout -out sa.key",
            "ec -in sa.key -pubout -out sa.pub",
            "pkcs8 -topk8 -nocrypt -in sa.key -outform DER -out sa.der",
        ] {
            let made = Command::new("openssl")
                .current_dir(dir)
                .args(words.split(' '))
                .output();
            assert!(made.unwrap().status.success(), "openssl {words}");
        }
        let ports = [free(), free(), free()];
        let [at, peer, _] = ports.map(|port| format!("http://127.0.0.1:{port}"));
        let etcd = Command::new(programs.join("etcd"))
            .args(["--name", "t", "--unsafe-no-fsync", "--log-level", "error"])
            .arg(format!("--data-dir={}", dir.join("etcd").display()))
            .arg(format!("--listen-client-urls={at}"))
            .arg(format!("--advertise-client-urls={at}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=t={peer}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("etcd.log")).unwrap())
            .spawn()
            .unwrap();
        let mut api = Self {
            dir: dir.to_owned(),
            programs: programs.to_owned(),
            etcd,
            server: None,
            ports,
            account: String::new(),
            told: Cell::new(0),
        };
        api.up(&[]);
        let namespace = json!({"metadata": {"name": "ns"}});
        api.must("POST", "/api/v1/namespaces", &namespace);
        let account = json!({"metadata": {"name": "tailwake"}});
        let made = api.must(
            "POST",
            "/api/v1/namespaces/default/serviceaccounts",
            &account,
        );
        api.account = made["metadata"]["uid"].as_str().unwrap().to_owned();
        let role = json!({
            "metadata": {"name": "tailwake"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}],
        });
        api.must(
            "POST",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            &role,
        );
        api.allow(true);
        api
    }

    /// Starts the API server on its port and data, with these flags more, and waits until it answers.
    pub(crate) fn up(&mut self, more: &[&str]) {
        let at = |name: &str| self.dir.join(name).display().to_string();
        let log = File::options()
            .create(true)
            .append(true)
            .open(at("server.log"));
        fs::write(
            at("audit.yaml"),
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n\
             rules: [{level: Metadata, resources: [{group: '', resources: [pods]}]}]\n",
        )
        .unwrap();
        let server = Command::new(self.programs.join("kube-apiserver"))
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.ports[0]))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
            .arg(format!("--secure-port={}", self.ports[2]))
            .arg(format!("--cert-dir={}", at("certs")))
            .arg(format!("--token-auth-file={}", at("tokens.csv")))
            .arg(format!(
                "--service-account-signing-key-file={}",
                at("sa.key")
            ))
            .arg(format!("--service-account-key-file={}", at("sa.pub")))
            .arg(format!("--audit-policy-file={}", at("audit.yaml")))
            .arg(format!("--audit-log-path={}", at("audit.log")))
            .args([
                "--service-account-issuer=https://kubernetes.default.svc",
                "--endpoint-reconciler-type=none",
                "--authorization-mode=Node,RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--disable-admission-plugins=ServiceAccount",
                "--shutdown-watch-termination-grace-period=1s",
            ])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn();
        self.server = Some(server.unwrap());
        let begun = Instant::now();
        while self.try_call("GET", "/readyz", None).0 != 200 {
            assert!(begun.elapsed() < PATIENCE, "the API server does not start");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// SIGKILL for the API server; etcd stays.
    pub(crate) fn down(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// What agents ask for from now on is told by [`Self::asked`].
    pub(crate) fn begin(&self) {
        self.told.set(0);
        self.told.set(self.asked().len());
    }

    /// What agents have asked for: verb, status and URI of each request that was answered.
    pub(crate) fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("audit.log")).unwrap_or_default();
        let events = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ours = events.filter(|event| word(&event["userAgent"]).starts_with("tailwake/"));
        // A watch is told of twice: when it is answered, and when it is over.
        let mut seen = std::collections::BTreeSet::new();
        let ours = ours.filter(|event| seen.insert(word(&event["auditID"])));
        let said = |event: Value| {
            let code = event["responseStatus"]["code"].as_u64().unwrap_or(0);
            format!(
                "{} {code} {}",
                word(&event["verb"]),
                word(&event["requestURI"])
            )
        };
        let mut asked: Vec<String> = ours.map(said).collect();
        asked.drain(..self.told.get().min(asked.len()));
        asked
    }

    /// Gives the account its right, or takes it.
    pub(crate) fn allow(&self, allow: bool) {
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        if !allow {
            self.must("DELETE", &format!("{path}/tailwake"), &Value::Null);
            return;
        }
        let binding = json!({
            "metadata": {"name": "tailwake"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "tailwake"},
            "subjects": [{"kind": "ServiceAccount", "name": "tailwake", "namespace": "default"}],
        });
        self.must("POST", path, &binding);
    }

    /// A pod of this node; gives its uid.
    pub(crate) fn make_pod(&self, node: &str, name: &str, app: &str) -> String {
        let pod = json!({
            "metadata": {
                "name": name, "labels": {"app": app},
                "annotations": {"team": "blue"},
            },
            "spec": {"nodeName": node, "containers": [{"name": "app", "image": "x"}]},
        });
        let made = self.must("POST", "/api/v1/namespaces/ns/pods", &pod);
        made["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// Changes a pod's metadata.
    pub(crate) fn change_pod(&self, name: &str, metadata: &Value) {
        let path = format!("/api/v1/namespaces/ns/pods/{name}");
        self.must("PATCH", &path, &json!({"metadata": metadata}));
    }

    /// Deletes a pod at once, as kubelet does in the end.
    pub(crate) fn delete_pod(&self, name: &str) {
        let path = format!("/api/v1/namespaces/ns/pods/{name}?gracePeriodSeconds=0");
        self.must("DELETE", &path, &Value::Null);
    }

    /// etcd forgets all versions but the newest.
    pub(crate) fn compact(&self) {
        let base = format!("http://127.0.0.1:{}/v3/kv", self.ports[0]);
        let call = |path: &str, body: &Value| {
            let words = ["-s", "-m", "20", "-d"];
            let mut curl = Command::new("curl");
            curl.args(words).arg(body.to_string());
            let said = curl.arg(format!("{base}/{path}")).output().unwrap();
            serde_json::from_slice::<Value>(&said.stdout).unwrap()
        };
        let now = call("range", &json!({"key": "AA=="}));
        let revision = &now["header"]["revision"];
        call(
            "compaction",
            &json!({"revision": revision, "physical": true}),
        );
    }

    /// A token of the agent's account that is taken for `secs` seconds more; less than nothing = it is
    /// over by so long.
    pub(crate) fn token(&self, secs: i64) -> String {
        let now = harness::text::now_ns() / 1_000_000_000;
        let now = i64::try_from(now).unwrap();
        let claims = json!({
            "iss": "https://kubernetes.default.svc", "aud": ["https://kubernetes.default.svc"],
            "sub": ACCOUNT, "iat": now - 3_600, "nbf": now - 3_600, "exp": now + secs,
            "kubernetes.io": {
                "namespace": "default",
                "serviceaccount": {"name": "tailwake", "uid": self.account},
            },
        });
        let head = base64(json!({"alg": "ES256", "typ": "JWT"}).to_string().as_bytes());
        let text = format!("{head}.{}", base64(claims.to_string().as_bytes()));
        let random = SystemRandom::new();
        let der = fs::read(self.dir.join("sa.der")).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random);
        let signed = pair.unwrap().sign(&random, text.as_bytes()).unwrap();
        format!("{text}.{}", base64(signed.as_ref()))
    }

    /// Writes a kubeconfig in a directory, with its token in a file beside it; gives its path.
    pub(crate) fn kubeconfig(&self, dir: &Path) -> PathBuf {
        fs::create_dir_all(dir).unwrap();
        self.write_token(dir, 3_600);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{"name": "t", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.ports[2]),
                "certificate-authority": self.dir.join("certs/apiserver.crt"),
            }}],
            "users": [{"name": "t", "user": {"tokenFile": dir.join("token")}}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
        });
        let path = dir.join("kubeconfig");
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// Replaces the token as kubelet does: by renaming.
    pub(crate) fn write_token(&self, dir: &Path, secs: i64) {
        fs::write(dir.join("token.new"), self.token(secs)).unwrap();
        fs::rename(dir.join("token.new"), dir.join("token")).unwrap();
    }

    /// Whether the agent's account is told to come back later.
    pub(crate) fn is_busy(&self) -> bool {
        let mut curl = Command::new("curl");
        curl.args([
            "-s",
            "-k",
            "-m",
            "20",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
        ]);
        curl.args([
            "-H",
            &format!("Authorization: Bearer {}", self.token(3_600)),
        ]);
        let url = format!("https://127.0.0.1:{}/api/v1/pods", self.ports[2]);
        curl.arg(url).output().unwrap().stdout == b"429"
    }

    /// A process that asks for pods all the time, many at once, as the agent's account.
    pub(crate) fn crowd(&self) -> Child {
        let mut curl = Command::new("curl");
        curl.args([
            "-s",
            "-k",
            "--parallel",
            "--parallel-max",
            "40",
            "-o",
            "/dev/null",
        ]);
        curl.args([
            "-H",
            &format!("Authorization: Bearer {}", self.token(3_600)),
        ]);
        curl.arg(format!(
            "https://127.0.0.1:{}/api/v1/pods?n=[1-100000]",
            self.ports[2]
        ));
        curl.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        curl.spawn().unwrap()
    }

    /// A request as the administrator that must succeed.
    pub(crate) fn must(&self, verb: &str, path: &str, body: &Value) -> Value {
        let body = (!body.is_null()).then_some(body);
        let (status, said) = self.try_call(verb, path, body);
        assert!(
            (200..300).contains(&status),
            "{verb} {path}: {status} {said}"
        );
        said
    }

    fn try_call(&self, verb: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-k", "-m", "20", "-X", verb, "-w", "\n%{http_code}"]);
        curl.args(["-H", "Authorization: Bearer admin"]);
        let kind = if verb == "PATCH" {
            "merge-patch+json"
        } else {
            "json"
        };
        curl.args(["-H", &format!("Content-Type: application/{kind}")]);
        if let Some(body) = body {
            curl.args(["-d", &body.to_string()]);
        }
        let said = curl
            .arg(format!("https://127.0.0.1:{}{path}", self.ports[2]))
            .output();
        let said = String::from_utf8_lossy(&said.unwrap().stdout).into_owned();
        let (text, status) = said.rsplit_once('\n').unwrap_or_default();
        let status = status.parse().unwrap_or(0);
        (status, serde_json::from_str(text).unwrap_or(Value::Null))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.down();
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
    }
}

fn free() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// RFC 4648, section 5, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            out.push(char::from(DIGITS[(word >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    out
}

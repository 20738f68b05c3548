//! Uses Kubernetes where it may use Docker only: everything that needs no handle.

use hostile::prelude::*;

struct KubeNotGranted;

impl Policy for KubeNotGranted {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let name = decent::name(key);
        let answers = [
            kube::find(&name).err(),
            kube::pods().err(),
            kube::stale().err(),
            kube::find_claim(&name).err(),
            kube::create_claim(&name).err(),
        ];
        Err(denial(answers))
    }
}

hostile::policy!(KubeNotGranted);

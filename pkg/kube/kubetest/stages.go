package kubetest

import "berth/pkg/kube/kubetest/internal/kwok"

// StageAnnotation is the annotation that chooses what a pod plays: one of the Stage constants. The package comment describes them.
const StageAnnotation = kwok.StageAnnotation

// DelayAnnotation is the annotation with the delay of a stage as a Go duration, such as "500ms".
const DelayAnnotation = kwok.DelayAnnotation

// StageSlowPull pulls its image for the delay before it gets ready.
const StageSlowPull = kwok.SlowPull

// StagePullFails never gets its image: ErrImagePull and ImagePullBackOff in turn.
const StagePullFails = kwok.PullFails

// StageInvalidImage has an image name that cannot be read: InvalidImageName.
const StageInvalidImage = kwok.InvalidImage

// StageCrash ends with exit code 1 before it is ready and is restarted, for ever: CrashLoopBackOff.
const StageCrash = kwok.Crash

// StageFails ends with exit code 1 before it is ready and is not restarted: phase Failed.
const StageFails = kwok.Fails

// StageCompletes is ready for the delay, then ends with exit code 0: phase Succeeded.
const StageCompletes = kwok.Completes

// StageCrashesLater is ready for the delay, then ends with exit code 1: phase Failed.
const StageCrashesLater = kwok.CrashesLater

// StageOOM is ready for the delay, then is killed for its memory: phase Failed, reason OOMKilled.
const StageOOM = kwok.OOM

// StageEvict is ready for the delay, then is evicted by its node: phase Failed, the pod's reason Evicted.
const StageEvict = kwok.Evict

// StageUnready runs for the delay before it gets ready.
const StageUnready = kwok.Unready

// StageFlaps is ready for the delay, not ready for the delay, and then ready for good.
const StageFlaps = kwok.Flaps

// StageNeverReady runs and never gets ready.
const StageNeverReady = kwok.NeverReady

// StageStuckTerminating is ready; its deletion takes the delay.
const StageStuckTerminating = kwok.Stuck

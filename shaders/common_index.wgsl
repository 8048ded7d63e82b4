
// Invocations of a workgroup in kernels that give each element one.
const LANES: u32 = 256u;

// The parameters of a kernel that gives each element an invocation.
#define invocation()
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#end

// The number of an invocation in its grid.
fn index(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return (group.y * groups.x + group.x) * LANES + lane;
}

//! Input stage of a drafting head, run on the head's threads and kernel.

use super::super::acts::To;
use super::super::input_stage::{InputBuffers, States};
use super::super::pool::Worker;
use super::super::scratch::Scratch;
use super::super::tile::BLOCK;
use super::super::work_split::WorkSplit;
use super::forward::Batch;
use super::products::ProductOutput;
use super::{HeadInput, Llama};

impl Llama {
    /// Runs one thread's part and writes rows of the residual stream for the pass.
    ///
    /// When it returns, all threads have finished.
    #[allow(unsafe_code)]
    pub(super) fn run_input_stage(
        &self,
        head_input: &HeadInput,
        worker: &Worker,
        pass: &Batch,
        states: States,
        room: &InputBuffers,
        s: &Scratch,
    ) {
        let (k, w, dim, eps) = (self.kernel, s.widths, room.dim, self.config.eps);
        let split = WorkSplit::by_stages(worker, 0..pass.tokens.len());
        let tokens = split.whole_rows();
        let Some(fusion) = &head_input.stage.fusion else {
            let (States::Hidden(all) | States::Own(all)) = states;
            for t in tokens {
                // SAFETY: row t belongs to this thread.
                unsafe { s.residual.write(t * w.dim..t * w.dim + dim) }
                    .copy_from_slice(&all[t * dim..][..dim]);
            }
            worker.barrier();
            return;
        };
        match states {
            States::Hidden(all) => {
                for t in tokens.clone() {
                    for (j, norm) in fusion.fuse_norms.iter().enumerate() {
                        let x = &all[(t * room.fused + j) * dim..][..dim];
                        // SAFETY: the quantized row belongs to this thread; the CPU has the
                        // kernel's instructions.
                        unsafe {
                            (k.norm)(
                                x,
                                norm,
                                eps,
                                To {
                                    acts: &room.hidden,
                                    row: t,
                                    first: j * dim / BLOCK,
                                    interleaved: false,
                                },
                                0..dim / BLOCK,
                            )
                        };
                    }
                }
                worker.barrier();
                self.products(
                    &split,
                    &[(&fusion.fuse, 0)],
                    &room.hidden,
                    ProductOutput::set(&s.residual, w.dim),
                );
                worker.barrier();
            }
            States::Own(all) => {
                for t in tokens.clone() {
                    // SAFETY: row t belongs to this thread.
                    unsafe { s.residual.write(t * w.dim..t * w.dim + dim) }
                        .copy_from_slice(&all[t * dim..][..dim]);
                }
            }
        }
        for t in tokens {
            // SAFETY: the buffer belongs to this thread.
            let embedding = unsafe { room.embeddings[worker.index].write(0..dim) };
            head_input.target.embed(pass.tokens[t], embedding);
            // SAFETY: the quantized row belongs to this thread. So does row t of x if the states
            // are the head's own; if they were fused, all rows were written before the barrier. The
            // CPU has the kernel's instructions.
            unsafe {
                let to = |first: usize| To { acts: &room.pair, row: t, first, interleaved: false };
                (k.norm)(embedding, &fusion.token_norm, eps, to(0), 0..dim / BLOCK);
                (k.norm)(
                    s.residual.read(t * w.dim..t * w.dim + dim),
                    &fusion.state_norm,
                    eps,
                    to(dim / BLOCK),
                    0..dim / BLOCK,
                );
            }
        }
        worker.barrier();
        self.products(
            &split,
            &[(&fusion.input, 0)],
            &room.pair,
            ProductOutput::add(&s.residual, w.dim),
        );
        worker.barrier();
    }
}

//! Zero-shot tasks as data: how a row of a data set becomes contexts, continuations and a right answer, as
//! lm-evaluation-harness's definitions of the same names and versions say.
//!
//! A task is one file and one line in [`TASKS`]. It renders texts and refuses rows that it cannot use, by
//! field; it tokenises nothing. A continuation comes with its delimiting space.

mod arc;
mod boolq;
mod documents;
mod hellaswag;
mod lambada;
mod mnli;
mod openbookqa;
mod piqa;
mod python_text;
mod rte;
mod task;
mod winogrande;
mod wnli;

pub use documents::{Harness, read, sources};
pub use python_text::is_space;
pub use task::{Document, Request, Task, TaskMeasure};

use crate::registry::{Entry, Registry};

/// All zero-shot tasks, by the names of lm-evaluation-harness.
pub const TASKS: Registry<Task> = Registry {
    kind: "task",
    entries: &[
        Entry {
            name: "hellaswag",
            summary: "how a scene goes on; 4 endings; acc, acc_norm",
            item: hellaswag::TASK,
        },
        Entry {
            name: "boolq",
            summary: "yes or no about a passage; acc",
            item: boolq::TASK,
        },
        Entry {
            name: "winogrande",
            summary: "which noun a blank stands for; acc",
            item: winogrande::TASK,
        },
        Entry {
            name: "mnli",
            summary: "does a hypothesis follow; 3 answers; acc",
            item: mnli::TASK,
        },
        Entry {
            name: "wnli",
            summary: "what a pronoun stands for; acc",
            item: wnli::TASK,
        },
        Entry {
            name: "rte",
            summary: "does a sentence follow; acc",
            item: rte::TASK,
        },
        Entry {
            name: "piqa",
            summary: "everyday physics; 2 solutions; acc, acc_norm",
            item: piqa::TASK,
        },
        Entry {
            name: "arc_easy",
            summary: "school science; acc, acc_norm",
            item: arc::EASY,
        },
        Entry {
            name: "arc_challenge",
            summary: "harder school science; acc, acc_norm",
            item: arc::CHALLENGE,
        },
        Entry {
            name: "openbookqa",
            summary: "elementary science; acc, acc_norm",
            item: openbookqa::TASK,
        },
        Entry {
            name: "lambada_openai",
            summary: "the last word of a passage; acc, perplexity",
            item: lambada::TASK,
        },
    ],
};

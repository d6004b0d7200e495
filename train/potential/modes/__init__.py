"""The modes in which a batch is solved and differentiated: direct, unrolled, implicit, as linear equations."""
